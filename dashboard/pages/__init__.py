"""One module a page, each with `show()`. They fetch, choose and lay out; figures are computed in results, charts in `charts`."""
