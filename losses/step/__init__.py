"""The train step: `algorithms.py` says what a step computes, `build.py` puts together the parts that a case needs."""
