"""The small local model: prompts, engines and the stage that asks it."""
