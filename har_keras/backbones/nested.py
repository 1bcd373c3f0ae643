"""Keras models that are made of other Keras models, saved with them."""

from typing import Any, ClassVar, Self

import keras


class Nested(keras.Model):
    """A model whose config holds the models that it is made of.

    Attributes:
        parts: tuple of str. Names of the attributes, and arguments, that are
            models or layers.
    """

    parts: ClassVar[tuple[str, ...]] = ("network",)

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {
            name: keras.saving.serialize_keras_object(getattr(self, name))
            for name in self.parts
        }

    @classmethod
    def from_config(
        cls, config: dict[str, Any], custom_objects: Any = None
    ) -> Self:
        found = {
            name: keras.saving.deserialize_keras_object(
                config[name], custom_objects
            )
            for name in cls.parts
        }
        return cls(**config | found)
