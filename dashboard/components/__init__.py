"""Parts that pages share: filters kept in the URL, tables, notices, downloads, the open database."""
