"""What a quantized weight is: grids and blocks of numbers, packed, and the layers that hold them.

``grid`` are uniform integers, ``fp4_grid`` NVFP4 and MXFP4, ``gguf_blocks`` ggml's types.
``linear`` is the layer of packed integers that the others extend; ``few_tokens`` multiplies by it
on a GPU, ``fp4_few_tokens`` by NVFP4 and MXFP4. ``rounding_kernels`` rounds inputs there.
"""
