"""Builds the native parts with CMake and packs them into the package.

Knobs (environment): NERFAD_CUDA=0|1|auto (auto: where nvcc and an NVIDIA driver are found),
NERFAD_EMU=0|1|auto, TORCH_CUDA_ARCH_LIST, MAX_JOBS, CMAKE_ARGS, NERFAD_TORCH_DIR. torch must be
installed first; it is found without importing it, also from inside pip's build isolation, so that no
build downloads torch a second time.
"""

import os
import re
import shlex
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

from setuptools import Extension, find_packages, setup
from setuptools.command.build_ext import build_ext

ROOT = Path(__file__).resolve().parent
MIN_TORCH = (2, 11)


def torch_folder() -> Path:
    site = [sysconfig.get_path("platlib"), sysconfig.get_path("purelib"), *sys.path]
    named = [os.environ.get("NERFAD_TORCH_DIR"), *(os.path.join(p, "torch") for p in site)]
    for folder in named:
        if folder and (Path(folder) / "include/torch/csrc/stable/library.h").is_file():
            text = (Path(folder) / "version.py").read_text()
            version = re.search(r"__version__ = '(\d+)\.(\d+)", text)
            if version and (int(version[1]), int(version[2])) >= MIN_TORCH:
                return Path(folder)
    sys.exit(
        "nerfad: install torch >= 2.11 first, then nerfad (with uv or python -m build: "
        "--no-build-isolation), or set NERFAD_TORCH_DIR to the torch package's folder"
    )


def find_nvcc() -> str | None:
    homes = [os.environ.get("CUDA_HOME"), os.environ.get("CUDA_PATH"), "/usr/local/cuda"]
    pip_toolkit = os.path.join(sysconfig.get_path("platlib"), "nvidia", "cu13", "bin", "nvcc")
    candidates = [os.environ.get("CUDACXX"), *(h and os.path.join(h, "bin/nvcc") for h in homes)]
    for nvcc in [*candidates, shutil.which("nvcc"), pip_toolkit]:
        if nvcc and os.access(nvcc, os.X_OK):
            return nvcc
    return None


def has_nvidia_driver() -> bool:
    return Path("/proc/driver/nvidia/version").is_file() or Path("/dev/dxg").exists()


def switch(name: str) -> str:
    return {"0": "OFF", "1": "ON"}.get(os.environ.get(name, "auto").lower(), "AUTO")


def cuda_arguments() -> list[str]:
    wanted = switch("NERFAD_CUDA")
    nvcc = None if wanted == "OFF" else find_nvcc()
    if wanted == "ON" and not nvcc:
        sys.exit("nerfad: NERFAD_CUDA=1, but no nvcc was found; set CUDACXX or CUDA_HOME")
    if nvcc and wanted == "AUTO" and not has_nvidia_driver():
        print(
            "nerfad: no NVIDIA driver here, CUDA kernels are left out; NERFAD_CUDA=1 builds them all the same"
        )
        nvcc = None
    if not nvcc:
        return ["-DNERFAD_CUDA=OFF"]
    arguments = ["-DNERFAD_CUDA=ON", f"-DCMAKE_CUDA_COMPILER={nvcc}"]
    archs = []
    for arch in re.split(r"[ ;]+", os.environ.get("TORCH_CUDA_ARCH_LIST", "").strip()):
        if arch:
            number = arch.removesuffix("+PTX").replace(".", "")
            archs.append(number if arch.endswith("+PTX") else f"{number}-real")
    return arguments + ([f"-DCMAKE_CUDA_ARCHITECTURES={';'.join(archs)}"] if archs else [])


class CMakeBuild(build_ext):
    def get_ext_filename(self, fullname: str) -> str:
        # Only _runtime links Python; the others carry no interpreter version in their names.
        if fullname.endswith("_runtime"):
            return super().get_ext_filename(fullname)
        return os.path.join(*fullname.split(".")) + ".so"

    def build_extension(self, ext: Extension) -> None:
        if ext.name != "nerfad._C":  # one CMake run makes them all
            return
        target = Path(self.get_ext_fullpath(ext.name)).resolve().parent
        # A fixed folder, since editable installs hand out a new temporary one each time.
        folder = (
            ROOT / "build" / f"cmake-{sysconfig.get_platform()}-{sys.version_info[0]}{sys.version_info[1]}"
        )
        for stale in target.glob("libnerfad_*.so"):
            stale.unlink()
        configure = [
            *("cmake", "-S", str(ROOT), "-B", str(folder)),
            f"-DCMAKE_BUILD_TYPE={'Debug' if self.debug else 'Release'}",
            f"-DCMAKE_INSTALL_PREFIX={target}",
            f"-DNERFAD_TORCH_DIR={torch_folder()}",
            f"-DNERFAD_PYTHON={sys.executable}",
            f"-DNERFAD_EMU={switch('NERFAD_EMU')}",
            *cuda_arguments(),
        ]
        if (ninja := shutil.which("ninja")) and not (folder / "Makefile").exists():
            configure += ["-G", "Ninja", f"-DCMAKE_MAKE_PROGRAM={ninja}"]
        configure += shlex.split(os.environ.get("CMAKE_ARGS", ""))
        jobs = os.environ.get("MAX_JOBS") or str(os.cpu_count())
        subprocess.check_call(configure)
        subprocess.check_call(["cmake", "--build", str(folder), "-j", jobs])
        subprocess.check_call(["cmake", "--install", str(folder)] + ([] if self.debug else ["--strip"]))


setup(
    packages=find_packages(include=["nerfad", "nerfad.*"]),
    ext_modules=[
        Extension("nerfad._C", []),
        Extension("nerfad._runtime", [], optional=True),
        Extension("nerfad.libnerfad_cuda", [], optional=True),
        Extension("nerfad.libnerfad_emu", [], optional=True),
    ],
    cmdclass={"build_ext": CMakeBuild},
    zip_safe=False,
)
