"""How converted files reach the disk: sizes known ahead, tensors streamed, work overlapped.

Every other room may import this one.
"""
