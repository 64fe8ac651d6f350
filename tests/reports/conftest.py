import pytest
from matplotlib.figure import Figure


@pytest.fixture
def drawn(monkeypatch):
    """Return the list that receives figures instead of their being saved."""
    figures = []
    monkeypatch.setattr(Figure, "savefig", lambda figure, path, **options: figures.append(figure))
    return figures
