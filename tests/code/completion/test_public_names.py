"""What ``seqmlm_domains.code`` offers, and what importing it costs."""

from __future__ import annotations

import subprocess
import sys

import seqmlm_domains.code as code


def test_the_completer_is_found_where_the_readme_says() -> None:
    from seqmlm_domains.code import Completer
    from seqmlm_domains.code.completion.completer import Completer as Defined

    assert Completer is Defined
    assert set(code.__all__) <= set(dir(code))


def test_importing_the_package_imports_no_torch() -> None:
    script = "import sys, seqmlm_domains.code; print('torch' in sys.modules)"
    found = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True)
    assert found.stdout.strip() == b"False"
