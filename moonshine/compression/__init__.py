"""Deep Compression (Han, Mao & Dally, ICLR 2016): pruning, shared weights, and the Huffman-coded file of the result."""
