"""What belongs to a folder and what only lies in it."""

from pathlib import Path

from vq_core.files.folder_content import content_of, files_below, is_file_name, size_of

CONTENT = ["config.json", "transformer/README.md", "transformer/block_0.safetensors"]
BESIDE = [".cache/huggingface/download/config.json.metadata", ".gitattributes", "README.md", "transformer/.x.tmp"]


def test_dot_folders_and_the_model_card_are_no_content(tmp_path: Path) -> None:
    for name in CONTENT + BESIDE:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("12345")
    assert list(files_below(tmp_path)) == sorted(CONTENT + BESIDE, key=lambda name: tmp_path / name)
    assert list(content_of(tmp_path)) == CONTENT
    assert content_of(tmp_path)["config.json"] == tmp_path / "config.json"
    assert size_of(tmp_path) == 5 * len(CONTENT)


def test_a_folder_that_lies_in_a_dot_folder_is_read_like_any(tmp_path: Path) -> None:
    folder = tmp_path / ".cache" / "model"
    folder.mkdir(parents=True)
    (folder / "a").write_text("1")
    assert list(content_of(folder)) == ["a"]


def test_a_file_name_leads_nowhere_else() -> None:
    assert [name for name in ("a", "a.b", "", "..", "a/b", "/a", "../a", "a/") if is_file_name(name)] == ["a", "a.b"]
