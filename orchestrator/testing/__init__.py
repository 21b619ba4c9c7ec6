"""What a stranger needs to test against this product: fakes and conformance kits. Loads nothing by itself."""
