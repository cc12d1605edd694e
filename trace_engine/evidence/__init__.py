"""From hits to findings: grouping, paths, sentences, and the table of the contract."""
