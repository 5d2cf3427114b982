"""Half-gates garbling and evaluation."""
