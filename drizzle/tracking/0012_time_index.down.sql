-- Takes back 0012_time_index: the index was there before it and stays.
SELECT 1;
