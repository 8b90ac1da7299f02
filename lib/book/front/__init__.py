"""The first page: the picture of all claims, the findings beside it, and the picture that links to it show."""
