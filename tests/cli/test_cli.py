"""The command line: one sentence and exit code 2 for what a user gets wrong, never a traceback."""

import importlib
import os
import subprocess
import sys

import pytest

from nerfad.cli import console, demo
from nerfad.cli.main import main
from nerfad.cli.threads import yield_cores_early
from nerfad.errors import NerfadError


def run(monkeypatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["nerfad", *arguments])
    try:
        main()
    except SystemExit as stop:
        return int(stop.code or 0)
    return 0


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["preprocess", "missing.mp4", "out"], "missing.mp4"),
        (["sample", "out", "--seconds", "0.01"], "seconds"),
        (["sample", "out", "--size", "3"], "size"),
        (["train", "missing", "--out", "run"], "missing"),
        (["train", "missing", "--out", "run", "--minutes", "0"], "--minutes"),
        (["train", "missing", "--out", "run", "--minutes", "1", "--steps", "5"], "--steps"),
        (["render", "missing", "--audio", "a.wav", "--out", "o.mp4"], "missing"),
        (["evaluate", "missing", "--out", "scores"], "missing"),
        (["demo", "--out", "out", "--video", "missing.mp4"], "missing.mp4"),
        (["demo", "--out", "out", "--minutes", "0"], "--minutes"),
        (["demo", "--out", "file/out"], "file/out: a part of its path is a file"),
        (["train", "missing", "--out", "file"], "file: a part of its path is a file"),
        (["train", "missing", "--out", "file/run"], "file/run: a part of its path is a file"),
        (["pretrain-attention", "missing", "--out", "file/run"], "file/run"),
        (["evaluate", "missing", "--out", "file"], "file: a part of its path is a file"),
        (["render", "missing", "--audio", "a.wav", "--out", "."], ".: it is a folder; choose a file name"),
        (["render", "missing", "--audio", "a.wav", "--out", "o.mp4", "--size", "0"], "--size"),
        (["evaluate", "missing", "--out", "scores", "--max-frames", "0"], "--max-frames"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_a_user_gets_wrong_is_one_sentence(monkeypatch, capsys, tmp_path, arguments, named):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("in the way")
    assert run(monkeypatch, *arguments) == 2
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    complaint = [line for line in capsys.readouterr().err.splitlines() if line.startswith("nerfad: ")]
    assert len(complaint) == 1 and named in complaint[0]


def test_a_text_file_named_mp4_is_named(monkeypatch, capsys, tmp_path):
    clip = tmp_path / "notes.mp4"
    clip.write_text("not a video")
    assert run(monkeypatch, "preprocess", str(clip), str(tmp_path / "out")) == 2
    assert "notes.mp4" in capsys.readouterr().err


def test_the_doctor_says_no_with_exit_code_2(monkeypatch, capsys, tmp_path):
    assert run(monkeypatch, "doctor", str(tmp_path)) == 2


def test_interruption_says_how_to_go_on(monkeypatch, capsys):
    def interrupted(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr("nerfad.sample.generate.generate", interrupted)
    assert run(monkeypatch, "sample", "out") == 130
    assert "same command" in capsys.readouterr().err


def test_a_full_disk_is_one_sentence(monkeypatch, capsys):
    def full(*args, **kwargs):
        raise OSError(28, "No space left on device", "/data/frame.jpg")

    monkeypatch.setattr("nerfad.sample.generate.generate", full)
    assert run(monkeypatch, "sample", "out") == 2
    assert "/data/frame.jpg" in capsys.readouterr().err


def test_a_file_that_the_system_refuses_is_one_sentence(monkeypatch, capsys):
    def refused(*args, **kwargs):
        raise PermissionError(13, "Permission denied", "/data/run")

    monkeypatch.setattr("nerfad.sample.generate.generate", refused)
    assert run(monkeypatch, "sample", "out") == 2
    assert "nerfad: /data/run: Permission denied" in capsys.readouterr().err


TWO_FOLDERS = ("judge_attention", "judge_fusion")


@pytest.mark.parametrize("module", ["judge_attention", "judge_au_control", "judge_fusion", "train_audio"])
def test_modules_that_are_commands_end_in_one_sentence_too(monkeypatch, capsys, module):
    monkeypatch.setattr(sys, "argv", [module, "missing", *(["missing"] if module in TWO_FOLDERS else [])])
    with pytest.raises(SystemExit) as stop:
        importlib.import_module(f"nerfad.engine.{module}").main()
    assert stop.value.code == 2
    assert capsys.readouterr().err.startswith("nerfad: missing: ")


def test_errors_of_ours_are_not_hidden(monkeypatch):
    def broken(*args, **kwargs):
        raise ZeroDivisionError

    monkeypatch.setattr("nerfad.sample.generate.generate", broken)
    with pytest.raises(ZeroDivisionError):
        run(monkeypatch, "sample", "out")


def test_help_answers_without_loading_torch():
    code = (
        "import sys; sys.argv = ['nerfad', '--help']\n"
        "from nerfad.cli.main import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "sys.exit('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False)
    assert done.returncode == 0 and b"preprocess" in done.stdout


def test_help_names_choices_and_not_that_an_option_may_be_left_out(monkeypatch, capsys):
    assert run(monkeypatch, "train", "--help") == 0
    told = capsys.readouterr().out
    assert "{None}" not in told and "--fusion PATH" in told
    for choices in ("field.kind {hashgrid,mlp}", "field.precision {float32,bfloat16}", "form {baked,point}"):
        assert choices in told
    assert "--identity.no-enabled" in told


def test_progress_off_a_terminal_prints_each_tenth_once(capsys):
    printer = console._LinePrinter("train")
    for k in range(101):
        printer(k / 100, "step")
    assert len(capsys.readouterr().err.splitlines()) == 11


def test_long_preparations_are_told_off_a_terminal_too(monkeypatch, capsys):
    printer = console._LinePrinter("attention")
    clock = iter([100.0, 103.0, 106.0, 107.0])
    monkeypatch.setattr(console.time, "monotonic", lambda: next(clock))
    for k in range(4):
        printer(0.0, f"cutting out faces ({k}0%)")
    told = capsys.readouterr().err
    assert "(00%)" in told and "(20%)" in told and len(told.splitlines()) == 2


def test_the_demo_refuses_a_missing_video_before_any_work(tmp_path):
    with pytest.raises(NerfadError, match=r"clip\.mp4 does not exist"):
        demo.run_demo(tmp_path / "out", tmp_path / "clip.mp4", None, 0, None)
    assert not (tmp_path / "out").exists()


def test_exporting_nothing_names_the_run(monkeypatch, capsys, tmp_path):
    assert run(monkeypatch, "export", str(tmp_path / "missing"), str(tmp_path / "me.avatar")) == 2
    assert "holds no checkpoint" in capsys.readouterr().err
    assert not (tmp_path / "me.avatar").exists()


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, "3000"),
        ({"GOMP_SPINCOUNT": "7"}, "7"),
        ({"OMP_WAIT_POLICY": "active"}, None),
    ],
)
def test_threads_yield_their_cores_unless_the_user_says_otherwise(given, expected, monkeypatch):
    for name in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY"):
        monkeypatch.setenv(name, "")  # so that it is as before afterwards
        monkeypatch.delenv(name)
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    yield_cores_early()
    assert os.environ.get("GOMP_SPINCOUNT") == expected


def test_the_command_line_decides_how_threads_wait_before_torch_is_imported():
    code = "import nerfad.cli.main, sys; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
