"""Model cards: what an exported model says of itself."""

from __future__ import annotations

from modiste import config
from modiste.data.sets import is_known_set
from modiste.paths import last_part


def published_recipe(recipe: config.Recipe) -> config.Recipe:
    """The recipe with the last part of its data's path, so written that it is taken for no known set's name."""
    name = last_part(recipe.data.name)
    name = f"./{name}" if is_known_set(name) and name != recipe.data.name else name
    return recipe.model_copy(update={"data": recipe.data.model_copy(update={"name": name})})
