"""The paper's figure, as a command: many runs of the GAN program, over each other.

methods -> runs -> figure
what is    done,   scores over iterations, seconds and bytes;
compared   or      seconds and bytes to a score
           gone on with
"""
