"""Writers of bit-compatible miniatures: the real names, trees and types of published datasets."""
