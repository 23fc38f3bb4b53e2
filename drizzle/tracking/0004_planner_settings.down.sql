-- Takes back 0004_planner_settings.
DO $$
BEGIN
  EXECUTE format('ALTER DATABASE %I RESET random_page_cost', current_database());
END
$$;
