"""What a quantized weight is beside packed integers: blocks of numbers, and layers that hold them.

``fp4_grid`` are NVFP4 and MXFP4, ``gguf_blocks`` ggml's types. ``packing`` makes bits of codes. On
a GPU ``few_tokens`` multiplies by packed integers, ``fp4_few_tokens`` by NVFP4 and MXFP4, and
``rounding_kernels`` rounds inputs; ``last_rounded`` keeps them for the linears that share them.
"""
