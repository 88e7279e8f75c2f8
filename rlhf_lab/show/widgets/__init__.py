"""What a person looks at and touches in a notebook."""
