"""Speed: how long the parts take, beside a rival in the same run."""
