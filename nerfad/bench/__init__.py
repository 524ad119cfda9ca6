"""The benchmark: `python -m nerfad.bench`. Import nothing here, so that it can set OpenMP up first."""
