"""Local servers that speak a provider's protocol over loopback, with faults on demand."""
