"""SASRec and HSTU on MovieLens-100k, beside a SASRec in plain torch."""
