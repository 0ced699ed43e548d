"""The network as data: spec, zoo, plan, cost, build. Only `build`, and what it needs, imports Keras."""
