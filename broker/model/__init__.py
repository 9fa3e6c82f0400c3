"""The nouns everybody shares, one file for each subject. Nothing here does anything, and nothing here imports a part.

basics (whose, when, which mode) · traffic (what went by) · observations (what it meant) · schedules (what may be drawn, when)
· records (what is kept: for the engine, for a restart) · orders (what learning wants done).

Energy is Wh, power W, current A per phase, voltage V line to neutral, state of charge %; times of the world are seconds since
1970 UTC (`float`), times for timers are monotonic seconds. An id token is personal data: the classes that carry one keep it
out of their `repr`.
"""
