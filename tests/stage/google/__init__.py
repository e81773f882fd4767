"""Google Cloud, as far as a project meets it: each service answers by what its documentation says."""
