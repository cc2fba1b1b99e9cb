"""Running the test cases of prompts: calls through the pipeline in the name of the platform's own customer."""
