"""A slow, obvious second implementation of docs/semantics.md and of every detector.

Plain Python, plain dicts and lists, one event at a time, no numpy. Nothing here is imported by the
package; the conformance suite holds the two implementations to each other.
"""
