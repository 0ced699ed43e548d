"""The network as data: spec, zoo, plan, cost, build. Only `build` and the modules it needs import Keras."""
