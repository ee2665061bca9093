"""How far pictures are from real ones: scores that a paper can print.

    pictures -> features -> moments -> distance
    uint8       a network    frechet    Frechet's, and the kernel distance

`features` needs no download: the weights of its network come inside a package of the
index. `fidelity` hands pictures to torch-fidelity, whose FID and Inception Score are
those of the literature. Both are asked by `judge`.
"""
