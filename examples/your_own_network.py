"""A custom network in five lines of YAML: its cost, the Keras model, and a feature pyramid."""

from pathlib import Path

import reszoo

Path("my_nets.yaml").write_text("""
slim_thing:
  base: resnet50d
  depths: [2, 2, 4, 2]
  widths: [128, 256, 512, 1024]
""")

print(reszoo.list_models(zoo="my_nets.yaml"), reszoo.cost("my_nets.yaml:slim_thing"))

model = reszoo.create("my_nets.yaml:slim_thing", input_shape=(96, 96, 3), classes=5, drop_path=0.1)
model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
model.save("slim_thing.keras")  # opens in plain Keras, on any backend, without reszoo

for stage, tensor in reszoo.features(model).output.items():
    print(stage, tensor.shape)
