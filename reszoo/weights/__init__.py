"""Pretrained weights: read without the library that wrote them, matched to the plan, loaded completely or refused."""
