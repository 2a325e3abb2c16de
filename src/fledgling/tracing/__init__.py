"""What was measured and decided, for Langfuse and other back-ends of OpenTelemetry: collected, kept on disk, sent."""
