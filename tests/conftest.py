"""What tests share. MindSpore graphs are slow to compile, so those that several tests use are built once."""
import utils.device  # noqa: F401, first: it sets the environment that MindSpore reads
