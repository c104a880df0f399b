"""What the study machinery costs: time per trial, and memory over many."""
