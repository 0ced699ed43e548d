"""The zoo as YAML: `models/` holds the networks."""
