"""A complete technique of one's own: where is the peak of a scan?"""
