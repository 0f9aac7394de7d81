"""Files of tensors, byte by byte: safetensors and `.pth` read in pieces, written atomically, ahead and behind.

Every room but `families` and `runtime` may import this one.
"""
