"""A folder that is watched: each picture that comes into it is refined once."""
