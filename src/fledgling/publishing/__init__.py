"""Publishing adapters, data and folders to the Hugging Face Hub."""
