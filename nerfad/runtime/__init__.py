"""A trained avatar without torch: NumPy and the compiled `_runtime` module are all it needs.

    from nerfad.runtime import Renderer
    avatar = Renderer.load("me.avatar")
    image = avatar.render(c2w, cond)  # uint8 [H, W, 3]

`nerfad.runtime.export.export_avatar` writes the file. It holds what is drawn, not what listens: conditions
and poses come from the run, where torch is, and travel as arrays.

    import numpy as np
    from nerfad.engine.render import Avatar
    from nerfad.features.audio import load_wave
    run = Avatar.load("runs/me")
    cond = run.conditions(load_wave("speech.wav"), own_level=True)  # float32 [n_frames, n_cond]
    np.savez("speech.npz", cond=cond, c2w=run.c2w, body=run.body)  # poses [n, 4, 4], body motion [n, 4]
"""

from nerfad.runtime.renderer import Renderer, build_info, cpu_features

__all__ = ["Renderer", "build_info", "cpu_features"]
