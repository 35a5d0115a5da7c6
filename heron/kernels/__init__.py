"""Operations whose memory or speed decides what fits and how long it takes. Torch only, plain arguments."""
