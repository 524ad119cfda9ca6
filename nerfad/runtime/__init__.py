"""A trained avatar without torch: NumPy and the compiled `_runtime` module are all it needs.

    from nerfad.runtime import Renderer
    avatar = Renderer.load("me.avatar")
    image = avatar.render(c2w, cond)  # uint8 [H, W, 3]

`nerfad.runtime.export.export_avatar` writes the file.
"""

from nerfad.runtime.renderer import Renderer, build_info, cpu_features

__all__ = ["Renderer", "build_info", "cpu_features"]
