"""The methods, a file each: what is lost in training, and how decoding begins."""
