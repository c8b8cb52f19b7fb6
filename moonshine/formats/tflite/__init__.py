"""INT8 files for TensorFlow Lite Micro and LiteRT: conversion in its own environment, the file, both runtimes."""
