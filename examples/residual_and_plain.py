"""Networks and their plain twins, the same layers without the shortcuts: parameters, MACs and depth of both."""

import reszoo

for name in ("resnet34", "resnet50", "resnet56_cifar", "residual_mlp50"):
    spec = reszoo.spec(name)
    residual, plain = reszoo.cost(spec), reszoo.cost(spec.plain())
    print(f"{name:16} {residual.params:>12,} parameters, {residual.macs:>14,} MACs, {residual.depth} layers")
    print(f"{'  its plain twin':16} {plain.params:>12,} parameters, {plain.macs:>14,} MACs, {plain.depth} layers\n")

# A built model is an ordinary Keras model; its spec is recovered from the layers alone.
model = reszoo.resnet50(depths=[1, 1, 1, 1], stem="cifar", input_shape=(32, 32, 3), classes=10)
print(reszoo.plan(reszoo.spec_of(model)).text())
