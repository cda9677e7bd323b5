"""Files that images come in: downloads, archives, IDX, image files, prepared folders."""
