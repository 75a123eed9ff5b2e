"""What files say of their origin: metadata, signed manifests, watermarks, and their verification."""
