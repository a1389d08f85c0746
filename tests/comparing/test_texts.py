"""The text that both models read."""

from benchsuite.comparing.texts import open_text


def test_a_byte_order_mark_is_no_text(tmp_path):
    plain, marked = tmp_path / "plain.txt", tmp_path / "marked.txt"
    plain.write_bytes(b"Some text.\n")
    marked.write_bytes("\ufeffSome text.\n".encode())
    assert open_text(str(marked)).digest == open_text(str(plain)).digest
