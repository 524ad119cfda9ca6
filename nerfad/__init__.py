"""nerfad: real-time, speech-driven talking faces rendered by conditional radiance fields.

The package imports lazily: `import nerfad` loads neither torch nor the compiled kernels, so that the
torch-free runtime and `python -m nerfad.env` stay light.
"""

__version__ = "0.1.0"
