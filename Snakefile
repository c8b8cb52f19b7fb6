# The DAG for Snakemake. The study is what params.yaml says: edit it, or `cp studies/cifar10.yaml params.yaml`.
import sys

# this clone's own package, whichever clone the virtual environment was made for
sys.path[:0] = [workflow.basedir, f"{workflow.basedir}/workflow"]


include: "workflow/rules/graph.smk"


rule all:
    default_target: True
    input:
        COMPLETE,
    message:
        f"The study {STUDY.study} is complete"
