-- Points are read in the order of an index, from memory or SSD. With the default of 4, made for
-- spinning disks, the planner reads a device's day by bitmap and sorts it: twice the time.
DO $$
BEGIN
  EXECUTE format('ALTER DATABASE %I SET random_page_cost = 1.1', current_database());
END
$$;
